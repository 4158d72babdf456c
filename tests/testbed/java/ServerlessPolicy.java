import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** What MSK Serverless documents: only these settings may be given, and no name may begin with an underscore. */
public class ServerlessPolicy implements CreateTopicPolicy {
    private static final Set<String> ALLOWED = Set.of(
        "cleanup.policy", "compression.type", "max.message.bytes", "message.timestamp.type",
        "retention.bytes", "retention.ms");

    @Override
    public void validate(RequestMetadata request) {
        if (request.topic().startsWith("__")) {
            return;  // Kafka's own
        }
        for (String name : request.configs().keySet()) {
            if (!ALLOWED.contains(name)) {
                throw new PolicyViolationException("Topic configuration " + name + " cannot be set");
            }
        }
        if (request.topic().startsWith("_")) {
            throw new PolicyViolationException("The name of a topic begins with a letter or a digit");
        }
    }

    @Override
    public void configure(Map<String, ?> settings) {
    }

    @Override
    public void close() {
    }
}
