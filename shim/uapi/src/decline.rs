//! Why a connection stays on TCP: the diagnosis codes of CLC Decline (RFC 7609 section A.2.4 and Linux
//! `net/smc/smc_clc.h`, `SMC_CLC_DECL_*`), as `smcss` prints them.

/// A CLC decline code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decline(pub u32);

impl Decline {
    /// Not declined: the connection is undecided or runs through shared memory.
    pub const NONE: Self = Self(0);
    /// Memory, descriptors or the memory budget are exhausted.
    pub const MEMORY: Self = Self(0x0101_0000);
    /// The peer did not answer the CLC proposal in time.
    pub const TIMEOUT: Self = Self(0x0201_0000);
    /// Settings of this process forbid it.
    pub const CONFIGURATION: Self = Self(0x0300_0000);
    /// The peer does not speak SMC: no answer to the proposal.
    pub const PEER_NO_SMC: Self = Self(0x0301_0000);
    /// No SMC-D device reaches the peer: it is outside this network namespace.
    pub const NO_SMCD_DEVICE: Self = Self(0x0303_0000);
    /// The eyecatcher or the layout of the offered memory is wrong.
    pub const BAD_RMBE: Self = Self(0x0305_0000);
    /// The program uses a socket option or a call that shared memory cannot carry.
    pub const OPTION: Self = Self(0x0306_0000);
    /// The two ends speak different versions of the protocol.
    pub const VERSION: Self = Self(0x030c_0000);
    /// A link group has no free connection element.
    pub const TOO_MANY_DMBS: Self = Self(0x030d_0000);
    /// The two ends disagree about the state of the handshake.
    pub const SYNCHRONISATION: Self = Self(0x0400_0000);
    /// The peer declined, or withdrew its accept.
    pub const PEER_DECLINED: Self = Self(0x0500_0000);
    /// The library itself failed.
    pub const INTERNAL: Self = Self(0x0999_0000);

    /// The code in words; empty for [`Decline::NONE`].
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NONE => "",
            Self::MEMORY => "memory or descriptors are exhausted",
            Self::TIMEOUT => "the peer did not answer in time",
            Self::CONFIGURATION => "settings forbid it",
            Self::PEER_NO_SMC => "the peer has no SMC",
            Self::NO_SMCD_DEVICE => "the peer is outside this network namespace",
            Self::BAD_RMBE => "the offered memory is not valid",
            Self::OPTION => "a socket option or call that shared memory cannot carry",
            Self::VERSION => "the peer speaks another version",
            Self::TOO_MANY_DMBS => "the link group is full",
            Self::SYNCHRONISATION => "the ends disagree about the handshake",
            Self::PEER_DECLINED => "the peer declined",
            Self::INTERNAL => "the library failed",
            Self(_) => "unknown",
        }
    }
}
