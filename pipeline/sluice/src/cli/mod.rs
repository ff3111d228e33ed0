//! Commands: arguments in, an exit code out.

pub(crate) mod args;
pub(crate) mod failure;
pub(crate) mod output;
pub(crate) mod topic_forms;
