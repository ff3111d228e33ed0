//! The edge role: the HTTP API that writes topics, and the webhook listener. Never a look-up outside memory, and
//! never a success before the broker's acknowledgement.

pub mod request;
