//! Every reader on tiny hand-written files: what is right is read, what is wrong is refused by an exact message.

mod files;
mod readers;
mod sets;
