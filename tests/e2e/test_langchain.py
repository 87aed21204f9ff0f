"""langchain-openai against a server, held to LangChain's own standard tests of a chat model.

What is expected stands in the class that is inherited. Its tests of the class alone, without a server, are LangChain's business. What a model of 135 million parameters would not do by itself
is asked of the server: calls that fit their schema, one at a time, and texts that end.
"""
import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class SmallModel(ChatOpenAI):
    def bind_tools(self, tools, **options):
        options = {"strict": True, "parallel_tool_calls": False} | options
        if "ls_structured_output_format" not in options:  # arguments repeat what was asked: without the penalty that ends texts
            options["extra_body"] = {"repetition_penalty": 1}
        return super().bind_tools(tools, **options)


class TestIntegration(ChatModelIntegrationTests):
    chat_model_class = SmallModel
    chat_model_params = {}
    supports_json_mode = True
    has_tool_choice = True
    model_override_value = None

    @pytest.fixture(autouse=True)
    def of_this_server(self, server):
        self.chat_model_params = {"model": server.model, "api_key": server.key, "base_url": f"{server.url}/v1", "stream_usage": True,
                                  "max_retries": 0, "max_tokens": 200, "temperature": 0, "extra_body": {"repetition_penalty": 1.1}}
        self.model_override_value = server.model

    @pytest.mark.xfail(reason="so small a model does not call a tool unless it must")
    def test_agent_loop(self, model):
        super().test_agent_loop(model)

    @pytest.mark.xfail(reason="so small a model does not write the JSON that it is only told of")
    def test_json_mode(self, model):
        super().test_json_mode(model)
