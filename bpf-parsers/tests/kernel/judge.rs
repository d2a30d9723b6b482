//! The other side of `judge.c`: what a case is, what the kernel says of it, and what this crate says.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use preloop_parsers::insn::Insn;
use preloop_parsers::maps::{Map, MapDef, MapKind};
use preloop_parsers::{Fields, MapRef, Program, Rejected};

use crate::piece::KEYS;

/// A program with packets to run it over.
#[derive(Clone, Debug)]
pub struct Case {
    pub insns: Vec<Insn>,
    pub packets: Vec<Message>,
}

/// What a program looks at.
#[derive(Clone, Debug)]
pub struct Message {
    pub mark: u32,
    pub priority: u32,
    pub bytes: Vec<u8>,
}

/// How a case ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Rejected { errno: i32, log: String },
    Ran(Outcome),
}

/// Return values, and for each map and key the value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub returned: Vec<u32>,
    pub values: Vec<Option<Vec<u8>>>,
}

const VALUE_SIZE: u32 = 16;
const MAPS: [(MapKind, u32, u32); 2] = [(MapKind::Array, 2, KEYS as u32), (MapKind::Hash, 1, 4)];
/// Destination, source, and a type of no known protocol: the kernel takes them off before the program runs.
const LINK_HEADER: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xb5];

impl Case {
    /// The request, as `judge.c` reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |number: u32| out.extend(number.to_le_bytes());
        put(MAPS.len() as u32);
        for (_, number, entries) in MAPS {
            [number, 4, VALUE_SIZE, entries].into_iter().for_each(&mut put);
        }
        put(self.insns.len() as u32);
        out.extend(Insn::encode(&self.insns));
        out.extend((self.packets.len() as u32).to_le_bytes());
        for packet in &self.packets {
            let length = LINK_HEADER.len() + packet.bytes.len();
            for number in [packet.mark, packet.priority, length as u32] {
                out.extend(number.to_le_bytes());
            }
            out.extend(LINK_HEADER.iter().chain(&packet.bytes));
        }
        out.extend((KEYS as u32).to_le_bytes());
        out
    }

    /// Reads the kernel's answer.
    pub fn decode(&self, from: &mut impl Read) -> io::Result<Verdict> {
        let errno = number(from)? as i32;
        let mut log = vec![0; number(from)? as usize];
        from.read_exact(&mut log)?;
        if errno != 0 {
            return Ok(Verdict::Rejected { errno, log: String::from_utf8_lossy(&log).into_owned() });
        }
        let mut outcome = Outcome { returned: Vec::new(), values: Vec::new() };
        for _ in &self.packets {
            let failed = number(from)?;
            assert_eq!(failed, 0, "BPF_PROG_TEST_RUN failed");
            outcome.returned.push(number(from)?);
        }
        for _ in 0..MAPS.len() * KEYS as usize {
            let found = number(from)? != 0;
            let mut value = vec![0; VALUE_SIZE as usize];
            if found {
                from.read_exact(&mut value)?;
            }
            outcome.values.push(found.then_some(value));
        }
        Ok(Verdict::Ran(outcome))
    }

    /// Loads the program here.
    pub fn load(&self) -> Result<Program, Rejected> {
        self.load_with(&maps())
    }

    fn load_with(&self, maps: &[Arc<Map>]) -> Result<Program, Rejected> {
        Program::load(&self.insns, |reference| match reference {
            MapRef::Fd(number) | MapRef::Index(number) => maps.get(usize::try_from(number).ok()?).cloned(),
        })
    }

    /// What this crate makes of it.
    ///
    /// # Panics
    /// When a run faults: programs here are ones that the kernel takes.
    pub fn evaluate(&self) -> Verdict {
        let maps = maps();
        let program = match self.load_with(&maps) {
            Ok(program) => program,
            Err(rejected) => return Verdict::Rejected { errno: rejected.errno, log: rejected.log },
        };
        let run = |packet: &Message| {
            let fields = Fields {
                mark: packet.mark,
                priority: packet.priority,
                ifindex: 1,
                protocol: u32::from(u16::from_le_bytes([0x88, 0xb5])),
                ..Fields::default()
            };
            let whole = program.run(&packet.bytes[..], &fields);
            whole.expect("a program that the kernel takes does not fault")
        };
        let returned = self.packets.iter().map(run).collect();
        let mut values = Vec::new();
        for map in &maps {
            for key in 0..KEYS {
                let mut value = vec![0; VALUE_SIZE as usize];
                values.push(map.get(&key.to_le_bytes(), &mut value).ok().map(|()| value));
            }
        }
        Verdict::Ran(Outcome { returned, values })
    }
}

fn maps() -> Vec<Arc<Map>> {
    let map = |(kind, _, max_entries)| {
        let def = MapDef { kind, key_size: 4, value_size: VALUE_SIZE, max_entries, read_only: false };
        Arc::new(Map::new(def).expect("a map"))
    };
    MAPS.map(map).to_vec()
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// The running `judge`.
pub struct Judge {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Judge {
    /// Compiles and starts it.
    pub fn start(directory: &Path) -> io::Result<Self> {
        let program = directory.join("judge");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/judge.c");
        let status = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status()?;
        if !status.success() {
            return Err(io::Error::other("cc failed"));
        }
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().expect("a pipe");
        let from = child.stdout.take().expect("a pipe");
        Ok(Self { child, to, from })
    }

    /// What the kernel says.
    pub fn ask(&mut self, case: &Case) -> io::Result<Verdict> {
        self.to.write_all(&case.encode())?;
        self.to.flush()?;
        case.decode(&mut self.from)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It is waiting for a request, or gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
