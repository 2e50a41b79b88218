//! Everything below the pages: stores, the slots in them, the disk limit, and files that get a name.
//!
//! | file | holds |
//! |---|---|
//! | `store` | the trait: bytes at offsets |
//! | `spill_file` | which process made a temp file, and where it is closed |
//! | `temp_file`, `memory_store` | stores: an unnamed temp file, and memory for tests |
//! | `catch_unwind` | a store whose panics are errors |
//! | `store_access` | whether this thread may call a store now |
//! | `transfer` | whole reads and writes, counted |
//! | `kernel_copy` | bytes from file to file, past the memory of the process |
//! | `holes` | ranges of a file that were never written |
//! | `slots` | which bytes of a store are free |
//! | `parts` | slots of less than a block |
//! | `bits` | a set of numbers whose room is requested before |
//! | `ticket_queue` | those that wait for room on the disk, in the order of their arrival |
//! | `quota` | the disk limit, and the queue of the waiters for room below it |
//! | `slotted_store` | a store, its slots and its limit together |
//! | `steps` | blocks on their way back to the file system |
//! | `own_file` | a file in which the content of one buffer lies in its final place |
//! | `backing` | where a buffer's slots are: in the pool's store, or in its own file |
//! | `atomic_file` | a file that gets its name when it is complete |
//! | `take_over`, `acl` | what it takes over from the file that it replaces: mode, owner and group; access control list |
//! | `hidden_name` | the name that it has before, and what was left under it |
//! | `name_sync` | how its name is made durable |

pub(crate) mod acl;
pub(crate) mod atomic_file;
pub(crate) mod backing;
pub(crate) mod bits;
pub(crate) mod catch_unwind;
pub(crate) mod hidden_name;
pub(crate) mod holes;
pub(crate) mod kernel_copy;
pub(crate) mod memory_store;
pub(crate) mod name_sync;
pub(crate) mod own_file;
pub(crate) mod parts;
pub(crate) mod quota;
pub(crate) mod slots;
pub(crate) mod slotted_store;
pub(crate) mod spill_file;
pub(crate) mod steps;
pub(crate) mod store;
pub(crate) mod store_access;
pub(crate) mod take_over;
pub(crate) mod temp_file;
pub(crate) mod ticket_queue;
pub(crate) mod transfer;
