//! Victims, generators and oracles for the tests of Strait.

pub mod victim;
