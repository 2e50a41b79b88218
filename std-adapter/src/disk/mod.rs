//! What lies below the pages: stores, the slots in them, the disk limit, and files that get a name.

pub(crate) mod atomic_file;
pub(crate) mod backing;
pub(crate) mod catch_unwind;
pub(crate) mod memory_store;
pub(crate) mod own_file;
pub(crate) mod quota;
pub(crate) mod slots;
pub(crate) mod slotted_store;
pub(crate) mod store;
pub(crate) mod temp_file;
pub(crate) mod transfer;
