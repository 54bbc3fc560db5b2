"""MQTT for whoever speaks it: the connection, the topics and the payload forms."""
