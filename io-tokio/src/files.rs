//! The files of the mesh directory.
