#include "frames.h"

#include <string.h>

uint16_t tw_crc16(uint16_t crc, const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        /* Eight steps of the polynomial 0x1021 at once. */
        uint16_t x = (uint16_t)((crc >> 8) ^ bytes[i]);
        x ^= x >> 4;
        crc = (uint16_t)((uint16_t)(crc << 8) ^ (uint16_t)(x << 12) ^ (uint16_t)(x << 5) ^ x);
    }
    return crc;
}

static void drop(tw_receiver *r, uint32_t count) {
    r->count -= count;
    memmove(r->bytes, r->bytes + count, r->count);
}

void tw_receiver_push(tw_receiver *r, uint8_t byte) {
    if (r->count < r->capacity && (r->count > 0 || byte == TW_FRAME_START)) {
        r->bytes[r->count++] = byte;
    }
}

void tw_receiver_resync(tw_receiver *r) {
    uint32_t at = 1;
    while (at < r->count && r->bytes[at] != TW_FRAME_START) {
        at++;
    }
    if (r->count > 0) {
        drop(r, at);
    }
}

tw_frame_status tw_receiver_next(tw_receiver *r) {
    if (r->count < TW_FRAME_HEAD) {
        return TW_FRAME_NONE;
    }
    const uint32_t length = tw_frame_length(r);
    if (length + TW_FRAME_EXTRA > r->capacity) {
        tw_receiver_resync(r);
        return TW_FRAME_TOO_LONG;
    }
    if (r->count < length + TW_FRAME_EXTRA) {
        return TW_FRAME_NONE;
    }
    const uint8_t *crc = r->bytes + TW_FRAME_HEAD + length;
    if (tw_crc16(0xFFFF, r->bytes + 1, TW_FRAME_HEAD - 1 + length) != (crc[0] | (uint32_t)crc[1] << 8)) {
        tw_receiver_resync(r);
        return TW_FRAME_BAD_CRC;
    }
    return TW_FRAME_OK;
}

void tw_receiver_drop_frame(tw_receiver *r) {
    drop(r, tw_frame_length(r) + TW_FRAME_EXTRA);
    if (r->count > 0 && r->bytes[0] != TW_FRAME_START) {
        tw_receiver_resync(r);
    }
}
