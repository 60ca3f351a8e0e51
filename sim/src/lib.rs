//! Worlds of many devices.
