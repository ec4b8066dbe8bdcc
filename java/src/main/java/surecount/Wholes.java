package surecount;

import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Collections;
import java.util.Deque;
import java.util.Map;
import java.util.WeakHashMap;
import org.apache.flink.streaming.runtime.tasks.StreamTask;

/**
 * Whole values of the batches that Python has, for rejected records: what crosses is projected.
 *
 * <p>{@link Batcher} and {@link Decoded} are operators of one chain, so of one task, and share these. One thread uses
 * them, the task's.
 */
final class Wholes {

    private static final Map<StreamTask<?, ?>, Wholes> OF_TASKS = Collections.synchronizedMap(new WeakHashMap<>());

    private final Deque<Batch> batches = new ArrayDeque<>();

    private record Batch(int number, byte[][] packs) {}

    Wholes() {}

    static Wholes of(StreamTask<?, ?> task) {
        return OF_TASKS.computeIfAbsent(task, any -> new Wholes());
    }

    /** Keeps the packs of a batch, whose number is greater than those of batches before. */
    void put(int batch, byte[][] packs) {
        batches.add(new Batch(batch, packs));
    }

    /** A copy of a value, by where it begins among the whole values of its pack. */
    byte[] value(int batch, int pack, int start, int size) {
        for (Batch found : batches) {
            if (found.number == batch) {
                byte[] of = found.packs[pack];
                int first = wholes(of) + start;
                return Arrays.copyOfRange(of, first, first + size);
            }
        }
        throw new IllegalStateException("whole values of batch " + batch
                + " are not here: a batch has none, or its operators are not in one chain");
    }

    /** Where the whole values of a pack begin. */
    private static int wholes(byte[] pack) {
        int at = Pack.HEAD_BYTES;
        for (int part = 0; part < Pack.PARTS - 1; part++) {
            at += Pack.view(pack).getInt(Pack.LENGTHS_AT + Integer.BYTES * part);
        }
        return at;
    }

    /** Forgets a batch, and all before it. Numbers wrap. */
    void drop(int batch) {
        while (!batches.isEmpty() && batches.peek().number - batch <= 0) {
            batches.remove();
        }
    }
}
