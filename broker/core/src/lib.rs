//! Every decision a Kafka cluster takes, as plain state machines: no I/O, no clock.
