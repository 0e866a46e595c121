// The demo page in Firefox.
import { testDemo } from './suite.mjs';

testDemo('firefox');
