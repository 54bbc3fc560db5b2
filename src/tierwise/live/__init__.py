"""The same thing with real processes: broker, services, sensors."""
