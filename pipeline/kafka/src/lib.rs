//! Sluice's only door to Kafka and to the schema registry.
