//! What is redone when the configuration or a file changes.
