#!/bin/sh
# Writes MQTT_USERNAME and MQTT_PASSWORD, hashed, to the file that mosquitto.conf names.
set -eu
umask 077
file=${1:-/mosquitto/run/passwords}
printf '%s:%s\n' "${MQTT_USERNAME:?}" "${MQTT_PASSWORD:?}" > "$file"
mosquitto_passwd -U "$file"
