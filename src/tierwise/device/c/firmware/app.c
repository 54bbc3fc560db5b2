/* The device: answers frames for ever. One model, one serial line, no heap.
 *
 * READY (at start)      -> protocol version (1), CRC32 of the model (4)
 * INFO                  -> JSON text
 * INFER inputs          -> instructions (4), stack bytes (4), outputs
 * SENSE inputs          -> ASK inputs: the device has sensed something and asks the edge what it is
 * ANSWER status, reals  -> ANSWER number of answers so far (4), first real (4): the edge's answer has arrived
 * anything wrong        -> ERROR code (1), text */
#include <string.h>

#include "frames.h"
#include "hal.h"
#include "model.h"

#define PROTOCOL_VERSION 1
#define LONGEST (TW_INPUT_BYTES > 64 ? TW_INPUT_BYTES : 64)

enum { ERROR_CRC = 1, ERROR_TOO_LONG = 2, ERROR_TRUNCATED = 3, ERROR_TYPE = 4, ERROR_LENGTH = 5 };

static uint8_t received[LONGEST + TW_FRAME_EXTRA];
static tw_receiver receiver = {received, sizeof received, 0};
static uint32_t answers;

static uint16_t sending_crc;

static void put(const void *bytes, uint32_t count) {
    sending_crc = tw_crc16(sending_crc, bytes, count);
    hal_write(bytes, count);
}

static void begin(uint8_t type, uint8_t sequence, uint32_t length) {
    const uint8_t start = TW_FRAME_START;
    const uint8_t head[4] = {type, sequence, (uint8_t)length, (uint8_t)(length >> 8)};
    hal_write(&start, 1);
    sending_crc = 0xFFFF;
    put(head, sizeof head);
}

static void put32(uint32_t value) {
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    put(bytes, sizeof bytes);
}

static void end(void) {
    const uint8_t crc[2] = {(uint8_t)sending_crc, (uint8_t)(sending_crc >> 8)};
    hal_write(crc, sizeof crc);
}

static void send_error(uint8_t sequence, uint8_t code, const char *text) {
    const uint32_t length = (uint32_t)strlen(text);
    begin(TW_ERROR, sequence, 1 + length);
    put(&code, 1);
    put(text, length);
    end();
}

static void send_ready(void) {
    const uint8_t version = PROTOCOL_VERSION;
    begin(TW_READY, 0, 5);
    put(&version, 1);
    put32(TW_MODEL_CRC32);
    end();
}

static void infer(uint8_t sequence, const uint8_t *payload) {
    for (uint32_t i = 0; i < TW_INPUT_COUNT; i++) {
        memcpy(tw_inputs[i].data, payload, (size_t)tw_inputs[i].bytes);
        payload += tw_inputs[i].bytes;
    }
    const uint32_t before = hal_instructions();
    tw_run();
    const uint32_t after = hal_instructions();
    begin(TW_INFER, sequence, 8 + TW_OUTPUT_BYTES);
    put32(hal_counts() ? after - before : HAL_NOT_MEASURED);
    put32(hal_stack_bytes());
    for (uint32_t i = 0; i < TW_OUTPUT_COUNT; i++) {
        put(tw_outputs[i].data, (uint32_t)tw_outputs[i].bytes);
    }
    end();
}

static void take_answer(uint8_t sequence, const uint8_t *payload, uint32_t length) {
    uint8_t first[4] = {0};
    if (length >= 5) {
        memcpy(first, payload + 1, sizeof first);
    }
    answers++;
    begin(TW_ANSWER, sequence, 8);
    put32(answers);
    put(first, sizeof first);
    end();
}

static void handle(uint8_t type, uint8_t sequence, const uint8_t *payload, uint32_t length) {
    if (type == TW_INFER || type == TW_SENSE) {
        if (length != TW_INPUT_BYTES) {
            send_error(sequence, ERROR_LENGTH, "the payload is not as long as the inputs");
        } else if (type == TW_INFER) {
            infer(sequence, payload);
        } else {
            begin(TW_ASK, sequence, length);
            put(payload, length);
            end();
        }
    } else if (type == TW_INFO) {
        begin(TW_INFO, sequence, TW_INFO_BYTES);
        put(tw_info, TW_INFO_BYTES);
        end();
    } else if (type == TW_ANSWER) {
        take_answer(sequence, payload, length);
    } else {
        send_error(sequence, ERROR_TYPE, "unknown frame type");
    }
}

static void handle_frame(void) {
    handle(tw_frame_type(&receiver), tw_frame_sequence(&receiver), tw_frame_payload(&receiver),
           tw_frame_length(&receiver));
    tw_receiver_drop_frame(&receiver);
}

/* Handles what has arrived. After one error, silence until there is a good frame: noise must not be answered byte by
 * byte. */
static void receive(uint8_t byte) {
    static int32_t lost;
    tw_receiver_push(&receiver, byte);
    for (;;) {
        const tw_frame_status status = tw_receiver_next(&receiver);
        if (status == TW_FRAME_NONE) {
            lost = lost && receiver.count > 0;
            return;
        }
        if (status == TW_FRAME_OK) {
            handle_frame();
            lost = 0;
        } else if (!lost) {
            lost = 1;
            if (status == TW_FRAME_BAD_CRC) {
                send_error(0, ERROR_CRC, "bad CRC");
            } else {
                send_error(0, ERROR_TOO_LONG, "frame too long");
            }
        }
    }
}

/* The line fell silent in the middle of a frame: the rest will not come. What was received after its start may hold
 * whole frames. */
static void give_up(void) {
    send_error(0, ERROR_TRUNCATED, "truncated frame");
    while (receiver.count > 0) {
        tw_frame_status status;
        tw_receiver_resync(&receiver);
        while ((status = tw_receiver_next(&receiver)) != TW_FRAME_NONE) {
            if (status == TW_FRAME_OK) {
                handle_frame();
            }
        }
    }
}

void tw_serve(void) {
    hal_init();
    send_ready();
    for (;;) {
        int32_t byte;
        while ((byte = hal_read()) >= 0) {
            receive((uint8_t)byte);
        }
        if (!hal_wait(receiver.count > 0) && receiver.count > 0) {
            give_up();
        }
    }
}
