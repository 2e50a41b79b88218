//! What a ring refuses, in a form that tests can write: the variants of its error are not for others to make.

use overspill_core::ring::GrantError;

#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    TooLarge { limit: usize },
    NotNow { available: usize },
}

/// Why `result` is refused.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, GrantError>) -> Refused {
    match result.err().expect("it is granted") {
        GrantError::TooLarge { limit, .. } => Refused::TooLarge { limit },
        GrantError::NotNow { available, .. } => Refused::NotNow { available },
    }
}
