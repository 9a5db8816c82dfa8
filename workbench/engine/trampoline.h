/*
 * trampoline.h - from the engine into Python's hooks; the only C of ours that knows Python, and part of the
 * generated module alone. wb_python.h says what the short way is; whatever is out of the ordinary there goes
 * to Hooks.run, through wb_python_hook.
 *
 * After a call from the engine the caches are cold: what counts is how little is touched, not how it is
 * written.
 */
#ifndef WB_TRAMPOLINE_H
#define WB_TRAMPOLINE_H

#include "wb.h"
#include "wb_python.h"

enum { NOTABLE = 1000000 };     /* ns; Stalls counts a wait that is longer */

static void wb_python_hook(void *context, wb_access *access);

static void *leave(void)
{
    return PyEval_SaveThread();
}

static void enter(void *state)
{
    PyEval_RestoreThread(state);
}

/* Around the functions of build.py that keep the interpreter, instead of Py_BEGIN_ALLOW_THREADS. */
#define WB_KEEP_BEGIN wb_thread_hold(leave, enter);
#define WB_KEEP_END wb_thread_hold(NULL, NULL);

/* The slot of an access that may go the short way now. */
static wb_slot *find_slot(wb_short *all, const wb_access *access)
{
    uint64_t key = access->offset << 10 | (uint64_t)access->region << 6 | (uint64_t)access->write << 3
                   | (access->size - 1);
    wb_slot *slot = &all->slots[key % WB_SLOTS];

    if (access->origin != WB_GUEST || all->depth || all->running)
        return NULL;
    return slot->key == key && slot->generation == all->generation ? slot : NULL;
}

/* Calls what cannot fail, or whose failure nobody can be told of. */
static void call_quietly(PyObject *function, PyObject *arguments)
{
    PyObject *result = PyObject_CallObject(function, arguments);

    Py_XDECREF(result);
    if (!result)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(arguments);
}

/* What a hook has raised, as a new reference; NULL when it has not. */
static PyObject *take_error(void)
{
    PyObject *kind, *error, *trace;

    PyErr_Fetch(&kind, &error, &trace);
    if (!kind)
        return NULL;
    PyErr_NormalizeException(&kind, &error, &trace);
    if (trace)
        PyException_SetTraceback(error, trace);
    Py_XDECREF(kind);
    Py_XDECREF(trace);
    return error;
}

/* After a hook: a skip that was asked for and not raised is taken back, and what was raised is told. */
static uint16_t settle(const wb_short *all, const wb_slot *slot, PyObject *error)
{
    PyObject *settled;

#ifdef Py_GIL_DISABLED
    __atomic_thread_fence(__ATOMIC_SEQ_CST);    /* either we see who asks, or he that nothing runs: skip.py */
#endif
    settled = all->asked ? PyObject_CallObject(all->settle, NULL) : NULL;
    Py_XDECREF(settled);
    if (PyErr_Occurred() && !error)
        error = take_error();
    PyErr_Clear();
    if (!error)
        return WB_HOOK_RAN;
    call_quietly(all->failed, Py_BuildValue("(OO)", slot->hook, error));
    Py_DECREF(error);
    return WB_HOOK_RAN | WB_HOOK_FAILED;
}

static PyObject *call_hook(const wb_short *all, const wb_slot *slot, const wb_access *access)
{
    PyObject *seen, *result;

    if (slot->touch == Py_None)
        return PyObject_CallFunctionObjArgs(slot->function, slot->device, NULL);
    seen = PyObject_CallFunction(all->access, "OOKK", slot->touch, all->origin,
                                 (unsigned long long)access->value, (unsigned long long)access->old);
    if (!seen)
        return NULL;
    result = PyObject_CallFunctionObjArgs(slot->function, slot->device, seen, NULL);
    Py_DECREF(seen);
    return result;
}

/* What a read hook returned, as the value to be stored: 1; or it is nothing, or raises. */
static int take_answer(const wb_short *all, const wb_slot *slot, wb_access *access, PyObject *result)
{
    PyObject *number;

    if (access->write || !result || result == Py_None)
        return 0;
    if (PyLong_CheckExact(result)) {
        access->value = PyLong_AsUnsignedLongLong(result);
        if (access->value <= slot->whole && !PyErr_Occurred())
            return 1;
        PyErr_Clear();
    }
    number = PyObject_CallFunctionObjArgs(all->answer, slot->hook, result, NULL);
    if (number)
        access->value = PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(number);
    return !PyErr_Occurred();
}

static void count_call(wb_calls *calls, uint64_t ns)
{
    calls->times[calls->calls++ % WB_TIMES] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    if (ns > calls->longest)
        calls->longest = ns;
}

/* With the lock; `slot` is a copy, as its place may be filled anew meanwhile. */
static void run_hook(wb_short *all, wb_slot slot, wb_access *access)
{
    uint64_t start = wb_clock();
    PyObject *result;
    int answered;

    Py_INCREF(slot.keep);
    if (start > access->time + NOTABLE) /* before it runs: a skip is for the hook alone */
        call_quietly(all->waited, Py_BuildValue("(K)", (unsigned long long)(start - access->time)));
    all->depth = 1;
    all->too_deep = 0;
    all->thread = PyThread_get_thread_ident();
    all->running = (uint32_t)(slot.key % WB_SLOTS + 1);
    all->since = start;
    result = call_hook(all, &slot, access);
    answered = take_answer(all, &slot, access, result);
    all->running = all->depth = 0;
    all->thread = 0;
    access->revision = slot.revision;
    access->flags = settle(all, &slot, take_error());
    if (answered && access->flags == WB_HOOK_RAN)
        access->flags |= WB_HOOK_ANSWERED;
    Py_XDECREF(result);
    count_call(slot.calls, wb_clock() - start);
    Py_DECREF(slot.keep);
}

/* Returns 0 when it is not for the short way. */
static int go_short_way(wb_short *all, wb_access *access)
{
    PyObject *taken;
    wb_slot *slot = find_slot(all, access);

    if (!slot)
        return 0;
    taken = PyObject_CallObject(all->take, NULL);
    if (!taken) {
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(taken);
    slot = find_slot(all, access);      /* perhaps it waited, and meanwhile hooks were swapped */
    if (slot)
        run_hook(all, *slot, access);
    call_quietly(all->give, NULL);
    return slot != NULL;
}

static void wb_hook_call(void *context, wb_access *access)
{
    wb_short *all = context;
    PyGILState_STATE state = PyGILState_Ensure();

    if (!go_short_way(all, access))
        wb_python_hook(all->handle, access);
    PyGILState_Release(state);
}

#endif
