//! What end-to-end tests share: shell devices, netcats, processes, deadlines.
