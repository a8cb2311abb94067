//! Every setting that a person writes: its documentation, its default and its validation, in one place.

pub mod field_error;

pub mod chain;

pub mod nearest;

pub mod byte_size;

pub mod duration;

pub mod secret;

pub mod process;

pub mod sink;
