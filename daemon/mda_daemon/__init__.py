"""The MQTT daemon around the memory, and its command line."""
