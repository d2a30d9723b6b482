//! The core against facts of the kernel (`tests/conformance/kernel-6.1.txt`), and against models.

mod astray;
mod connections;
mod direct;
mod loan;
mod model;
mod proc;
mod receive;
mod send;
mod steer;
mod straight;
mod strparser;
mod transmit;
mod world;
