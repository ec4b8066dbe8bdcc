package surecount;

/**
 * Names for a producer's headers that begin as surecount's own do.
 *
 * <p>{@code surecount.x} becomes {@code producer.surecount.x}, and that {@code producer.producer.surecount.x}: no two
 * names become one, and {@code udfs/headers.py} gives each its name back.
 */
final class Aside {

    private static final String PREFIX = "producer.";
    private static final String OURS = "surecount.";

    private Aside() {}

    static String name(String name) {
        return isTaken(name) ? PREFIX + name : name;
    }

    private static boolean isTaken(String name) {
        int at = 0;
        while (name.startsWith(PREFIX, at)) {
            at += PREFIX.length();
        }
        return name.startsWith(OURS, at);
    }
}
