// A chat template of words that the story vocabulary has, which knows tools and thoughts: an answer
// begins with thoughts when it is asked to.
export const toolTemplate = `{% for m in messages %}[{{ m.role }}] {% if m.reasoning_content
%}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% for c in m.tool_calls %}
<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}
{% endfor %}{% if tools %}<tool_call>{% endif
%}{% if add_generation_prompt %}[assistant] {% if enable_thinking %}<think>
{% endif %}{% endif %}`;
