//! Pictures of every kind, good and odd, through the binary.
