//! Region graphs and their validity; no parameters.
//!
//! A circuit here is a forest of trees of **regions**. A region is a hidden variable with some states; it multiplies its
//! own input (a leaf on one observed variable) with dense sums over the states of its children. Smoothness and
//! decomposability then are facts about scopes alone, checked when a graph is made ([`region_graph`]).

pub mod region_graph;
pub mod information;
pub mod chow_liu;
pub mod quad_tree;
pub mod hclt;
pub mod config;
