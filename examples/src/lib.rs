//! The examples of byname are targets of this package.
