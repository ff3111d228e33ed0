//! The WhatsApp HTTP providers: one module per provider, and a simulated provider for each.
