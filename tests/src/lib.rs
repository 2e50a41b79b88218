//! What checks overspill: models, drivers and conformance checkers, shared by tests, benches and fuzz targets.

mod ring_driver;

pub use ring_driver::drive_ring;
