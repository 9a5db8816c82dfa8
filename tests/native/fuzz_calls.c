/*
 * fuzz_calls.c - a row of calls of the engine, nobody connected: regions with rules, shared pages, watches,
 * interrupts, DMA, dirty pages, state, resets. The first ones describe the device. Hooks make calls, too.
 */
#include "fuzz_kit.h"

static void hook(void *context, wb_access *access)
{
    struct world *world = context;

    CHECK(access->size >= 1 && access->size <= 8 && access->region < WB_REGIONS);
    access->flags = WB_HOOK_RAN;
    if (world->in[0])
        wb_native_call(world->device, &world->slots[0], access);
    if (world->script && access->write)
        calls_run(world, world->script);
}

/* Every second reset is left to the engine. */
static int reset(void *context, uint32_t kind)
{
    struct world *world = context;

    if (kind & 1)
        return 1;
    wb_device_reset(world->device, kind);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct world world;
    const wb_upcalls upcalls = {&world, hook, NULL, NULL, reset};
    struct input in = {bytes, size};
    int before = free_fd();

    world_begin(&world, &upcalls);
    calls_run(&world, &in);
    world.served = 1;
    world.script = &in;
    while (in.left)
        calls_run(&world, &in);
    world_end(&world);
    CHECK(free_fd() == before);
    return 0;
}
