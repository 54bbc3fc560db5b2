#!/bin/sh
# Writes the user MQTT_USERNAME with the password in /run/mqtt/password, hashed, to the file that mosquitto.conf names.
set -eu
umask 077
file=/mosquitto/run/passwords
printf '%s:%s\n' "${MQTT_USERNAME:?}" "$(cat /run/mqtt/password)" > "$file"
mosquitto_passwd -U "$file"
