package surecount;

/**
 * How long Python takes for a byte, by the bundle before; so how much a bundle may hold.
 *
 * <p>A checkpoint waits for the end of a bundle. A user's function may take minutes for what is decoded in a second
 * otherwise, and then a bundle is one batch.
 */
final class Pace {

    /** What a bundle may take, unless one batch takes longer. */
    static final long MOST_NS = 1_000_000_000;

    private double nsPerByte = MOST_NS;
    private long bytes;
    private long startNs;

    /** Counts a batch that is sent. */
    void sent(int length, long nowNs) {
        if (bytes == 0) {
            startNs = nowNs;
        }
        bytes += length;
    }

    /** Whether Python has enough to do until the bundle ends. */
    boolean isEnough() {
        return bytes * nsPerByte >= MOST_NS;
    }

    /** Says that Python has answered all. */
    void ended(long nowNs) {
        if (bytes > 0) {
            nsPerByte = (double) (nowNs - startNs) / bytes;
            bytes = 0;
        }
    }
}
