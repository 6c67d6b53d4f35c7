//! What is refused of an experiment file, and how it is said.
