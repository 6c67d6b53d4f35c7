//! Exit codes, signals, memory and closed streams.
