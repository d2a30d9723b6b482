//! Any bytes as an object file, as an encoded parser and as a spec.
#![no_main]

use libfuzzer_sys::fuzz_target;
use preloop_parsers::{Fields, Parser, object, spec::Spec};

fuzz_target!(|bytes: &[u8]| {
    let spec = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).map(Spec::parser);
    let parsers = [object::read(bytes, None).ok(), Parser::from_bytes(bytes).ok(), spec];
    for parser in parsers.into_iter().flatten() {
        if let Ok(program) = parser.load() {
            assert_eq!(Parser::from_bytes(&parser.to_bytes()).as_ref(), Ok(&parser));
            let _ = program.run(bytes, &Fields::default());
        }
    }
});
