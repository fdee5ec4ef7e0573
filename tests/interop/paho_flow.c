/* paho for C against the broker at the URI that is given: paho_flow URI VERSION [CA]
   One client publishes to itself at every QoS, retains, keeps a session, leaves a will, and carries a megabyte. */
#include <MQTTClient.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE 10000L

static const char *uri, *ca;
static int version;

static void fail(const char *what, ...)
{
    va_list arguments;
    va_start(arguments, what);
    vfprintf(stderr, what, arguments);
    fputc('\n', stderr);
    exit(1);
}

static MQTTClient open_client(const char *id, int clean, MQTTClient_willOptions *will, int *present)
{
    MQTTClient client;
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    create.MQTTVersion = version;
    if (MQTTClient_createWithOptions(&client, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) != MQTTCLIENT_SUCCESS)
        fail("cannot create %s", id);
    MQTTClient_SSLOptions ssl = MQTTClient_SSLOptions_initializer;
    ssl.trustStore = ca;
    ssl.enableServerCertAuth = 1;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions *used = version == MQTTVERSION_5 ? &options5 : &options;
    used->MQTTVersion = version;
    used->will = will;
    used->ssl = ca ? &ssl : NULL;
    if (version == MQTTVERSION_5) {
        MQTTProperties properties = MQTTProperties_initializer;
        MQTTProperty expiry;
        expiry.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL;
        expiry.value.integer4 = 300;
        if (!clean)
            MQTTProperties_add(&properties, &expiry);
        used->cleanstart = clean;
        MQTTResponse response = MQTTClient_connect5(client, used, clean ? NULL : &properties, NULL);
        if (response.reasonCode != MQTTREASONCODE_SUCCESS)
            fail("%s is not let in: %d", id, response.reasonCode);
        MQTTResponse_free(response);
    } else {
        used->cleansession = clean;
        int code = MQTTClient_connect(client, used);
        if (code != MQTTCLIENT_SUCCESS)
            fail("%s is not let in: %d", id, code);
    }
    if (present)
        *present = version == MQTTVERSION_5 ? 1 : used->returned.sessionPresent;
    return client;
}

static void subscribe(MQTTClient client, const char *filter, int qos)
{
    if (version == MQTTVERSION_5) {
        MQTTResponse response = MQTTClient_subscribe5(client, filter, qos, NULL, NULL);
        if ((int)response.reasonCode != qos)
            fail("%s is granted %d", filter, response.reasonCode);
        MQTTResponse_free(response);
    } else if (MQTTClient_subscribe(client, filter, qos) != MQTTCLIENT_SUCCESS) {
        fail("%s is refused", filter);
    }
}

static void publish(MQTTClient client, const char *topic, const void *payload, int length, int qos, int retained)
{
    MQTTClient_message message = MQTTClient_message_initializer;
    MQTTClient_deliveryToken token;
    message.payload = (void *)payload;
    message.payloadlen = length;
    message.qos = qos;
    message.retained = retained;
    int code;
    if (version == MQTTVERSION_5) {
        MQTTResponse response = MQTTClient_publishMessage5(client, topic, &message, &token);
        code = response.reasonCode;
        MQTTResponse_free(response);
    } else {
        code = MQTTClient_publishMessage(client, topic, &message, &token);
    }
    if (code != MQTTCLIENT_SUCCESS || MQTTClient_waitForCompletion(client, token, PATIENCE) != MQTTCLIENT_SUCCESS)
        fail("%s cannot be published", topic);
}

static void expect(MQTTClient client, const char *topic, const void *payload, int length, int qos, int retained)
{
    char *name = NULL;
    int size = 0;
    MQTTClient_message *message = NULL;
    /* The library reports here, once, that another of its connections ended. */
    for (int tries = 0; !message && tries < 3; tries++)
        MQTTClient_receive(client, &name, &size, &message, PATIENCE);
    if (!message)
        fail("nothing comes on %s", topic);
    if (strcmp(name, topic) || message->payloadlen != length || memcmp(message->payload, payload, length)
        || message->qos != qos || message->retained != retained)
        fail("%s: %d bytes at QoS %d, retained %d", name, message->payloadlen, message->qos, message->retained);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(name);
}

static void end(MQTTClient client)
{
    if (version == MQTTVERSION_5)
        MQTTClient_disconnect5(client, 1000, MQTTREASONCODE_SUCCESS, NULL);
    else
        MQTTClient_disconnect(client, 1000);
    MQTTClient_destroy(&client);
}

int main(int count, char **arguments)
{
    if (count < 3)
        fail("paho_flow URI VERSION [CA]");
    uri = arguments[1];
    version = atoi(arguments[2]);
    ca = count > 3 ? arguments[3] : NULL;
    MQTTClient_init_options init = MQTTClient_init_options_initializer;
    init.do_openssl_init = 1;
    MQTTClient_global_init(&init);

    MQTTClient client = open_client("c-all", 1, NULL, NULL);
    for (int qos = 0; qos < 3; qos++) {
        char topic[16];
        snprintf(topic, sizeof topic, "c/%d", qos);
        subscribe(client, topic, qos);
        publish(client, topic, "m", 1, 2, 0);
        expect(client, topic, "m", 1, qos, 0);
    }
    publish(client, "c/kept", "value", 5, 1, 1);
    subscribe(client, "c/kept", 1);
    expect(client, "c/kept", "value", 5, 1, 1);
    publish(client, "c/kept", "", 0, 1, 1);
    expect(client, "c/kept", "", 0, 1, 0);

    char *large = malloc(1000000);
    memset(large, 'x', 1000000);
    subscribe(client, "c/large", 1);
    publish(client, "c/large", large, 1000000, 1, 0);
    expect(client, "c/large", large, 1000000, 1, 0);
    free(large);

    MQTTClient keeper = open_client("c-keeper", 0, NULL, NULL);
    subscribe(keeper, "c/away", 1);
    end(keeper);
    for (int n = 0; n < 50; n++)
        publish(client, "c/away", &n, sizeof n, 1, 0);
    int present = 0;
    keeper = open_client("c-keeper", 0, NULL, &present);
    if (!present)
        fail("the session is gone");
    for (int n = 0; n < 50; n++)
        expect(keeper, "c/away", &n, sizeof n, 1, 0);
    end(keeper);
    end(open_client("c-keeper", 1, NULL, NULL));

    subscribe(client, "c/will", 1);
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    will.topicName = "c/will";
    will.message = "gone";
    will.qos = 1;
    MQTTClient taken = open_client("c-taken", 1, &will, NULL);
    MQTTClient taker = open_client("c-taken", 1, NULL, NULL);
    expect(client, "c/will", "gone", 4, 1, 0);
    MQTTClient_destroy(&taken);
    end(taker);
    end(client);
    puts("ok");
    return 0;
}
