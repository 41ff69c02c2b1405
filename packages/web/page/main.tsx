import { render } from 'preact';
import { App } from './app.js';
import { Client } from './client.js';
import './style.css';

render(<App client={new Client()} />, document.getElementById('page')!);
