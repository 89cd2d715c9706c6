//! A seeded world: network, disk, clock, processes and their faults. Knows no Kafka.
