//! What checks overspill: models, drivers and conformance checkers, shared by tests, benches and fuzz targets.
#![deny(missing_docs)]

pub mod bench;
