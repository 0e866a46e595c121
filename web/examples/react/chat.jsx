// useChat of the AI SDK with a model in the page: no server, no route. The model is loaded by the
// first message; `?model=` says which.
import { useChat } from '@ai-sdk/react';
import { DirectChatTransport, ToolLoopAgent } from 'ai';
import { OneKV } from 'onekv';
import { createOneKV } from 'onekv/ai-sdk';
import { useState } from 'react';
import { createRoot } from 'react-dom/client';

const url = new URLSearchParams(location.search).get('model') ??
  'hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M';
const onekv = createOneKV({ local: () => OneKV.load(url) });
const agent = new ToolLoopAgent({ model: onekv('local') });
const transport = new DirectChatTransport({ agent });

function Message({ role, parts }) {
  return <p data-role={role}>
    <b>{role}: </b>
    {parts.map((part, i) => part.type === 'text' ? <span key={i}>{part.text}</span>
      : part.type === 'reasoning' ? <i key={i}>{part.text}</i> : null)}
  </p>;
}

function Chat() {
  const { messages, sendMessage, status, stop, error } = useChat({ transport, throttle: 50 });
  const [text, setText] = useState('');
  const send = (event) => {
    event.preventDefault();
    if (text.trim() === '') return;
    sendMessage({ text });
    setText('');
  };
  // With keys of their own: one button that turned into the other would send on the same click.
  return <>
    {messages.map((message) => <Message key={message.id} {...message} />)}
    <form onSubmit={send}>
      <input value={text} onChange={(event) => setText(event.target.value)} />
      {status === 'ready' || status === 'error' ? <button key="send" id="send">Send</button>
        : <button key="stop" id="stop" type="button" onClick={() => stop()}>
          Stop
        </button>}
    </form>
    <p id="state">{error ? `error: ${error.message}` : status}</p>
  </>;
}

createRoot(document.getElementById('root')).render(<Chat />);
