//! What more than one program must agree on: decline codes, the settings users type, and the layout of every piece
//! of memory that two processes share. Nothing here acts; layouts are asserted at compile time.
#![forbid(unsafe_code)]

pub mod bpf;
pub mod decline;
pub mod group;
pub mod kcm;
pub mod listing;
pub mod mux;
pub mod ring;
pub mod settings;
pub mod sync;
