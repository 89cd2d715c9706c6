//! The hands: connections, files, timers; and the broker binary.
