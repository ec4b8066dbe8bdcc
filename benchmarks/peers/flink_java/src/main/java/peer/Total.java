package peer;

/** Count and sum of one key in one window. A POJO, as Flink's own serializer needs it. */
public class Total {
    public long count;
    public long sum;
}
