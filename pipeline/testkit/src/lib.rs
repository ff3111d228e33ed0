//! Real Kafka, a real CQL store and a real schema registry for tests.
