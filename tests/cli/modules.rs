//! TorchScript modules, good and hostile, through the binary.
