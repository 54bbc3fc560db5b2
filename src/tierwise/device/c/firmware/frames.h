/* Frames on the serial line: 0x7E, type, sequence, length (2), payload, CRC-16/CCITT-FALSE (2) of all after the 0x7E.
 * Numbers are little-endian. There is no escaping: a receiver that loses step tries every following 0x7E as a start. */
#ifndef TW_FRAMES_H
#define TW_FRAMES_H

#include <stdint.h>

#define TW_FRAME_START 0x7Eu
#define TW_FRAME_HEAD 5u /* start, type, sequence, length */
#define TW_FRAME_EXTRA 7u /* head and CRC */

enum { TW_READY = 1, TW_INFO = 2, TW_INFER = 3, TW_SENSE = 4, TW_ASK = 5, TW_ANSWER = 6, TW_ERROR = 0x7F };

typedef enum { TW_FRAME_NONE, TW_FRAME_OK, TW_FRAME_BAD_CRC, TW_FRAME_TOO_LONG } tw_frame_status;

/* Bytes of at most one frame. `capacity` is TW_FRAME_EXTRA more than the longest payload. */
typedef struct {
    uint8_t *bytes;
    uint32_t capacity, count;
} tw_receiver;

uint16_t tw_crc16(uint16_t crc, const uint8_t *bytes, uint32_t count);

/* Takes one byte. Call tw_receiver_next until it gives TW_FRAME_NONE before the next one. */
void tw_receiver_push(tw_receiver *r, uint8_t byte);

/* Looks at the bytes so far. After TW_FRAME_OK the frame stays until tw_receiver_drop_frame; after an error the false
 * start is gone already. */
tw_frame_status tw_receiver_next(tw_receiver *r);

/* Ends a frame that was handled. */
void tw_receiver_drop_frame(tw_receiver *r);

/* Gives the first byte up as a false start: what follows may hold a frame. */
void tw_receiver_resync(tw_receiver *r);

static inline uint8_t tw_frame_type(const tw_receiver *r) { return r->bytes[1]; }
static inline uint8_t tw_frame_sequence(const tw_receiver *r) { return r->bytes[2]; }
static inline uint32_t tw_frame_length(const tw_receiver *r) { return r->bytes[3] | (uint32_t)r->bytes[4] << 8; }
static inline const uint8_t *tw_frame_payload(const tw_receiver *r) { return r->bytes + TW_FRAME_HEAD; }

#endif
