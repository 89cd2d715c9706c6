//! A history in, a verdict out.
