package surecount;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.config.SslConfigs;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.config.types.Password;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.security.ssl.DefaultSslEngineFactory;

/** TLS with certificates and a key from PEM files, which are read when a client is made. */
public final class PemFiles extends DefaultSslEngineFactory {

    @Override
    public void configure(Map<String, ?> configs) {
        Map<String, Object> own = new HashMap<>(configs);
        if (Secret.setting(configs, "ca_file") != null) {
            own.put(SslConfigs.SSL_TRUSTSTORE_TYPE_CONFIG, PEM_TYPE);
            own.put(SslConfigs.SSL_TRUSTSTORE_CERTIFICATES_CONFIG, new Password(Secret.text(configs, "ca_file")));
        }
        if (Secret.setting(configs, "cert_file") != null) {
            own.put(SslConfigs.SSL_KEYSTORE_TYPE_CONFIG, PEM_TYPE);
            own.put(
                    SslConfigs.SSL_KEYSTORE_CERTIFICATE_CHAIN_CONFIG,
                    new Password(Secret.text(configs, "cert_file")));
            own.put(SslConfigs.SSL_KEYSTORE_KEY_CONFIG, new Password(Secret.text(configs, "key_file")));
        }
        super.configure(own);
    }
}
