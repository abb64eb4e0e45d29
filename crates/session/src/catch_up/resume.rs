//! Resumes: the pure plan of what is replayed, and the task that carries it out.

pub(crate) mod plan;
pub(crate) mod task;
