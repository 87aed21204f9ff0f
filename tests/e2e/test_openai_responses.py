"""The official OpenAI client against /v1/responses."""
import openai
import pytest

QUESTION = "What is the capital of France? Answer in one sentence."


def ask(client, server, question=QUESTION, **options):
    return client.responses.create(model=server.model, input=question, **{"max_output_tokens": 24, "temperature": 0, **options})


def test_answers_the_question(client, server):
    response = ask(client, server)
    assert response.object == "response" and response.id.startswith("resp_") and "Paris" in response.output_text
    assert response.status in ("completed", "incomplete") and response.store is False
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    message = response.output[-1]
    assert message.type == "message" and message.role == "assistant" and message.status == response.status


def test_equals_the_same_chat(client, server):
    chat = client.chat.completions.create(model=server.model, max_tokens=24, temperature=0,
                                          messages=[{"role": "system", "content": "Be terse."}, {"role": "user", "content": QUESTION}])
    response = ask(client, server, instructions="Be terse.")
    assert response.output_text == chat.choices[0].message.content
    assert response.usage.input_tokens == chat.usage.prompt_tokens


def test_stream_equals_the_whole_answer(client, server):
    whole = ask(client, server)
    events = list(ask(client, server, stream=True))
    types = [event.type for event in events]
    assert types[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert types[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert types[-1] == f"response.{whole.status}"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage == whole.usage or events[-1].response.usage.output_tokens == whole.usage.output_tokens


def test_the_clients_own_stream_helper(client, server):
    with client.responses.stream(model=server.model, input=QUESTION, max_output_tokens=24, temperature=0) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == ask(client, server).output_text


def test_a_conversation_is_sent_whole(client, server):
    first = ask(client, server)
    history = [{"role": "user", "content": QUESTION}, *[item.model_dump() for item in first.output],
               {"role": "user", "content": "And of Italy?"}]
    assert ask(client, server, history).usage.input_tokens > first.usage.input_tokens


def test_an_answer_that_was_cut_off_says_so(client, server):
    response = ask(client, server, "Count from one to one hundred in words.", max_output_tokens=5)
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 5


@pytest.mark.parametrize("options, param", [
    ({"store": True}, "store"),
    ({"background": True}, "background"),
    ({"truncation": "auto"}, "truncation"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"question": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
    ({"question": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ({"include": ["file_search_call.results"]}, "include"),
    ({"temperature": 3}, "temperature"),
])
def test_what_cannot_be_honoured_is_refused_by_name(client, server, options, param):
    with pytest.raises(openai.BadRequestError) as failure:
        ask(client, server, **options)
    assert failure.value.param == param


def test_there_is_no_stored_state(client, server):
    with pytest.raises(openai.NotFoundError) as failure:
        ask(client, server, previous_response_id="resp_1")
    assert failure.value.code == "not_stored_here" and failure.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError):
        client.files.list()
    with pytest.raises(openai.NotFoundError):
        client.batches.list()
