//! Memory for pages: frames, the budget that they are charged to, and the lists of free ones.

pub(crate) mod budget;
pub(crate) mod copy;
pub(crate) mod frame;
pub(crate) mod frame_pool;
pub(crate) mod free_lists;
pub(crate) mod machine;
pub(crate) mod size_class;
